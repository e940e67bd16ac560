"""Pure arithmetic over numbers already measured: no clock, no file, no process."""
