"""Control: the plain prompt on the frozen backbone."""
