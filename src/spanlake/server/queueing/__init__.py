"""Queries wait here for a thread: tenants in turn, within bounds (`turns.py`), and the threads that answer them (`query_queue.py`)."""
