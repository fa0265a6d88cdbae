"""A run in one file that anybody can check: packed, opened and verified.

A submission is a zip file with fixed members (`archive.MEMBERS`), in a fixed order, with fixed
times: the same run gives the same bytes. It holds the raw answers, so that whoever has it scores
them anew, and nothing of the machine that made it.
"""
