"""What reasoning gives away: whether it says what is done, and what monitors lose without it."""
