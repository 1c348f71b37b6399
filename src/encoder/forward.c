/* The model's computation, without kernels of its own yet. */
#include "encoder/forward.h"
#include "encoder/reference.h"
#include <stdlib.h>

struct forward {
    const struct checkpoint *checkpoint;
};

enum rc forward_new(const struct checkpoint *checkpoint, enum encoder_precision precision,
                    struct forward **out, struct err *err)
{
    UNUSED(precision);
    struct forward *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(err, ERR_OVERLOADED, "no memory for the model");
    f->checkpoint = checkpoint;
    *out = f;
    return RC_OK;
}

void forward_free(struct forward *forward) { free(forward); }

enum rc forward_run(const struct forward *forward, const struct sequences *sequences, float *hidden,
                    struct err *err)
{
    return reference_forward(forward->checkpoint, sequences, hidden, err);
}
