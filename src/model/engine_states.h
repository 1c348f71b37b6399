/* The one table of engine states: ENGINE_STATE(name, text in the API). Included several times, so
 * it has no guard. The legal moves stand in engine.c. */
ENGINE_STATE(STOPPED, "stopped")   /* no child; starts on first use */
ENGINE_STATE(CHECKING, "starting") /* a worker compares the model file with its recorded hash */
ENGINE_STATE(STARTING, "starting") /* the child runs; its health is asked until it is ready */
ENGINE_STATE(READY, "ready")
ENGINE_STATE(WAITING, "failed") /* ended by itself: the next start waits for the backoff */
ENGINE_STATE(FAILED,
             "failed") /* will not start again by itself: bad file, wrong hash, no program */
ENGINE_STATE(STOPPING, "stopping") /* TERM was sent */
