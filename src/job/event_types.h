/* EVENT_TYPE(name, text): what can be watched. Included several times, so it has no guard. */
EVENT_TYPE(CALL, "call")         /* a call ended: its summary */
EVENT_TYPE(JOB, "job")           /* a job's state or progress changed */
EVENT_TYPE(MODEL, "model")       /* a local model's engine changed its state */
EVENT_TYPE(CONFIG, "config")     /* providers, routes, keys … changed */
EVENT_TYPE(DOCUMENT, "document") /* a document of a collection changed its state */
EVENT_TYPE(RUN, "run")           /* a run of a pipeline began or ended */
