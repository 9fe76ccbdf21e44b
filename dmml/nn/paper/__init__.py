"""Parts of the networks as the paper writes them, where the paper differs from the defaults and from its released code."""
