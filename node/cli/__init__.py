"""The `openledger` command. Each module holds one subcommand or one group of them."""
