"""The options of a batch: names, help, and what they become. Shared by commands, web page and library."""
