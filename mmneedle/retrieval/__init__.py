"""Retrieve or read: a model that is shown only what a retriever chose of a haystack.

asked.py       what a user asks for: `--reader retrieve:8 --retriever bm25 --chunk 600:100`
ranking.py     what all retrievers share: scores, the best K, ties by place
bm25.py        by words (BM25)
embeddings.py  by meaning: sentence embeddings of a folder
photos.py      by looks: a CLIP or SigLIP folder
chunks.py      running text in chunks, and back
grids.py       haystacks of photos: the best cells in one small image
twins.py       their text twins: the best cells, places kept
passages.py    text tasks: the best chunks, pairs or documents
opening.py     a task with a reader in front of it
contrast.py    runs that read everything against runs that retrieve

A reader is a task around a task: the run loop, logs, scores and reports do not know it.
"""
