"""The command `python -m evaluation`: one module per subcommand, with its options, its answer and its text."""
