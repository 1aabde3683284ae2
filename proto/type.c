#include "proto/type.h"

bool type_is_valid(struct slice type)
{
    return slice_is_name(type, TYPE_TEXT_MAX) && type.at[0] != '.';
}
