"""Long texts: where they come from, how long they are in a model's tokens, data sets of them."""
