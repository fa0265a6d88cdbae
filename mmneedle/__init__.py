"""mmneedle: needles in long multimodal haystacks. See README.md."""

__version__ = "0.1.0"
