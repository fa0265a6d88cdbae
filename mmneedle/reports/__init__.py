"""What a person opens: `leaderboard.leaderboard` for tables, `html.write_report` for the page."""
