"""Forms with uploaded files: the options of `submit`, and uploads that are not submitted yet."""
