/* What a device type may be called, in the names of files and folders, in addresses, topics and settings alike. */
#ifndef PROTO_TYPE_H
#define PROTO_TYPE_H

#include "base/text.h"

#define TYPE_TEXT_MAX 64 /* bytes; letters, digits, `.`, `_`, `-`, not beginning with `.` */

bool type_is_valid(struct slice type);

#endif
