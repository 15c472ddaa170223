"""Work queue, reconciler, triggers: looks at one guest at a time, plans, executes, looks again."""
