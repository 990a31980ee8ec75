#include "shape.h"

#include "../sizes.h"

int ib_bconv_check(const ib_bconv_shape *s) {
    if (s->planes != 1 && s->planes != 2) return IB_BAD_VALUE;
    if (s->pad_value < -1 || s->pad_value > 1) return IB_BAD_VALUE;
    if (!ib_is_size(s->channels) || !ib_is_size(s->outputs) || !ib_is_size(s->groups)) return IB_BAD_SIZE;
    for (int axis = 0; axis < 2; axis++)
        if (!ib_is_size(s->kernel[axis]) || !ib_is_size(s->strides[axis]) || !ib_is_size(s->dilations[axis]))
            return IB_BAD_SIZE;
    for (int side = 0; side < 4; side++)
        if (s->pads[side] < 0 || s->pads[side] > IB_LARGEST) return IB_BAD_SIZE;
    return s->channels % s->groups || s->outputs % s->groups ? IB_BAD_VALUE : IB_OK;
}

int ib_bconv_size(const ib_bconv_shape *shape, int64_t height, int64_t width, int64_t *out_height, int64_t *out_width) {
    if (!shape || !out_height || !out_width) return IB_NULL;
    const int status = ib_bconv_check(shape);
    if (status) return status;
    const int64_t size[2] = {height, width};
    int64_t *const out[2] = {out_height, out_width};
    for (int axis = 0; axis < 2; axis++) {
        if (!ib_is_size(size[axis])) return IB_BAD_SIZE;
        /* Below 2^31 each: the products below fit in 63 bits. */
        const int64_t reach = (shape->kernel[axis] - 1) * shape->dilations[axis] + 1;
        const int64_t room = size[axis] + shape->pads[axis] + shape->pads[axis + 2] - reach;
        if (room < 0) return IB_BAD_SIZE;
        *out[axis] = room / shape->strides[axis] + 1;
    }
    return IB_OK;
}

bool ib_pads(const ib_bconv_shape *shape) {
    return shape->pads[0] || shape->pads[1] || shape->pads[2] || shape->pads[3];
}
