"""The report of a study: what was measured, with intervals over seeds, and what it says about the study's claims."""
