"""Records -> statistics, verdict, tables and figures."""
