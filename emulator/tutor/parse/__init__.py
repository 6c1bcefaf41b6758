"""Reading: from a question's text to the problem it poses, or to the reason why there is none."""
