"""The verbs of the command line, each a few lines over functions that a script could call.

Of other rooms they import inside their functions, so that `--help` comes at once.
"""
