"""`mmneedle view`: a local page to browse data sets and runs, from the tile store and the log."""
