"""The page on texts: text tasks, and images beside their text twins, on one axis of tokens.

series.py     runs as series: one task of one model, by length
depth.py      does the needle's place matter: ends against the middle
maps.py       length by depth, and every number behind it
examples.py   wrong answers, with the needle and what was expected
content.py    all that the page shows
write.py      the file
"""
