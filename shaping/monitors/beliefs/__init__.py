"""What a policy says off the record of what it did, held against what it stated on the record."""
