"""From a record to the strong and the weak view, with their targets."""
