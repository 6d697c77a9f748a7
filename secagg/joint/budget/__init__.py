"""What runs may tell in all: privacy budgets that all owners grant, and the guard against differencing."""
