/* What chips, kinds, faults and flash modes are called, and how a refusal is put into words. */
#include "proto/image.h"
#include "proto/image_checks.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

const char *chip_text(enum chip chip)
{
    switch (chip) {
#define X(name, id, text)                                                                                              \
    case CHIP_##name:                                                                                                  \
        return text;
        CHIP_LIST(X)
#undef X
    }
    return "unknown chip";
}

bool chip_is_known(unsigned chip_id)
{
    static const unsigned known[] = {
#define X(name, id, text) (id),
        CHIP_LIST(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i] == chip_id) {
            return chip_id != CHIP_UNKNOWN;
        }
    }
    return false;
}

bool chip_is_esp32_family(enum chip chip)
{
    return chip != CHIP_ESP8266 && chip_is_known((unsigned)chip);
}

const char *image_fault_word(enum image_fault fault)
{
    static const char *const words[] = {
#define X(name, word) [IMAGE_FAULT_##name] = (word),
        IMAGE_FAULT_LIST(X)
#undef X
    };
    return (size_t)fault < COUNT_OF(words) ? words[fault] : "unknown";
}

const char *flash_mode_text(unsigned mode)
{
    static const char *const texts[IMAGE_FLASH_MODES] = { "qio", "qout", "dio", "dout" };
    return mode < COUNT_OF(texts) ? texts[mode] : "unknown";
}

bool image_refuse(struct image_verdict *verdict, enum image_fault fault, const char *remedy, const char *detail, ...)
{
    struct image_verdict refusal = { .fault = fault };
    assert(fault != IMAGE_FAULT_NONE && strlen(remedy) < sizeof refusal.remedy);
    va_list arguments;
    va_start(arguments, detail);
    vsnprintf(refusal.detail, sizeof refusal.detail, detail, arguments);
    va_end(arguments);
    memcpy(refusal.remedy, remedy, strlen(remedy) + 1);
    *verdict = refusal;
    return false;
}
