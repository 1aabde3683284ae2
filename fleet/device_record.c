/* One record, whatever table it is in. */
#include "fleet/device.h"

#include <string.h>

static const char *const outcome_words[] = {
#define X(name, word) word,
    OUTCOME_LIST(X)
#undef X
};

const char *outcome_word(enum outcome outcome)
{
    return outcome_words[outcome];
}

const struct device_transfer *device_sent(const struct device *device, bool fs)
{
    static const struct device_transfer none;
    const struct device_transfer *of_fs = device->fs_transfer != NULL ? device->fs_transfer : &none;
    return fs ? of_fs : &device->transfer;
}

void device_ask_again(const struct devices *devices, const struct device *device, enum device_mode mode,
                      struct device_request *request)
{
    word_id version = mode == DEVICE_MODE_FS ? device->fs_version : device->version;
    *request = (struct device_request){ .client = (enum device_client)device->client,
                                        .mode = mode,
                                        .has_mac = true,
                                        .has_md5 = device->has_md5,
                                        .mac = device->mac,
                                        .free_bytes = device->free_bytes,
                                        .sketch_bytes = device->sketch_bytes,
                                        .flash_bytes = device->flash_bytes,
                                        .chip = (enum chip)device->chip,
                                        .label = slice_of(words_text(devices_words(devices), version)) };
    memcpy(request->sketch_md5, device->md5, sizeof request->sketch_md5);
}
