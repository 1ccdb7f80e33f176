"""Executions over HTTP beside bare interpreters, on this machine, in one sitting. Run with `make bench`.

Theory of operation. Every part (a module with a `measure`) starts a real server of its own, measures it over HTTP, and
stops it, so that no part sees what another one left behind. What is ours and what it is compared with always run in the
same minute and take turns, so that whatever else the machine does meets both alike: call by call where one client
takes its time (paced.py), slice by slice where the machine is kept busy (throughput.py). What comes out is one JSON
document (results.py says what is in it); tables (report.py) and charts (chart.py) are made from that document alone.
"""
