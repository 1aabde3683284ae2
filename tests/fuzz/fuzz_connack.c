/* `3` or `5`, the version that was asked for, then what answers our CONNECT: a broker lets us in with that one code
 * alone, and whatever else it is is said in words.
 */
#include "mqtt/session_probe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char address[] = "broker:1883";
    const struct session_settings settings = { .address = address };
    char error[SESSION_ERROR_MAX] = "";
    if (size < 5 || (data[0] != '3' && data[0] != '5')) {
        return 0;
    }
    enum session_version version = data[0] == '5' ? SESSION_VERSION_5 : SESSION_VERSION_3_1_1;
    size_t n = session_connack_bytes(data + 1);
    assert(n == (data[1] == 0x20 && data[2] > 127 ? 5 : 4)); /* a length of two bytes */
    if (size - 1 < n) {
        return 0;
    }
    uint8_t *bytes = malloc(n); /* to the byte: what was not received is not looked at */
    assert(bytes != NULL);
    memcpy(bytes, data + 1, n);
    enum probe_result result = session_connack(&settings, version, bytes, error);
    bool is_connack = bytes[0] == 0x20 && (data[0] == '5' ? bytes[1] > 2 : bytes[1] == 2);
    assert((result == PROBE_ACCEPTED) == (is_connack && bytes[n - 1] == 0));
    assert(result != PROBE_CLOSED && (result == PROBE_ACCEPTED) == (error[0] == '\0'));
    assert(result == PROBE_ACCEPTED || strstr(error, "broker") != NULL);
    for (const char *at = error; *at != '\0'; at++) {
        assert(*at >= 0x20 && *at <= 0x7e);
    }
    free(bytes);
    return 0;
}
