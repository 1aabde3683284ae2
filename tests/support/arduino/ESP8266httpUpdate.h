#include <HTTPUpdate.h>
