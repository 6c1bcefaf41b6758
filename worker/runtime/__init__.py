"""What all jobs of one worker process share."""
