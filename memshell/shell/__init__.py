"""A session and its commands: what a command is, the kinds of words, from words to a call, the shell itself."""
