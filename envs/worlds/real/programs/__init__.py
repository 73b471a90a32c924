"""Small programming tasks, and how programs that nobody trusts are run and graded."""
