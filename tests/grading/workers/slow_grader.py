"""A grader that takes as many seconds as the response says."""

import time


def grade(response, problem):
    time.sleep(float(response))
    return True
