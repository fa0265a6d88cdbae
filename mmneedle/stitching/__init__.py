"""Haystacks from photos: the tile store, the join, the sampling and the data set on disk."""
