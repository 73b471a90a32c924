"""How language models judge transcripts: what is asked, how answers are checked, sent, kept and paid for."""
