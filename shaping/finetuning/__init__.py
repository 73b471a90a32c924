"""Fine-tuning on given answers: rows from files, personas and trait kits, and what a learner is given of them."""
