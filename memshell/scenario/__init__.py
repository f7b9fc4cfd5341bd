"""The language of the prompt, -c and scenario files: grammar, expressions, player and test reports."""
