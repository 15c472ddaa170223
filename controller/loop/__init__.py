"""The control loop: work queue, workers, reconciler and triggers. It observes one guest at a time,
plans, executes, and observes again.
"""
