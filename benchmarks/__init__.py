"""Measurements that anybody can run again: recovery over seeds, calibration of the bars, and speed."""
