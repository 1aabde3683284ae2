/* Order and spelling are those of the clients as seen on the wire: esp8266/Arduino ESP8266httpUpdate.cpp with
 * ESP8266HTTPClient.cpp, espressif/arduino-esp32 HTTPUpdate.cpp with HTTPClient.cpp. They differ more than they should:
 * where Authorization stands, Cache-Control, Content-Length on a GET, the case of the SHA-256. */
#include "tests/sim/request.h"

#include "base/text.h"

#include <assert.h>
#include <ctype.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>

struct writer {
    char *at;
    size_t used;
};

static void put(struct writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct writer *writer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(writer->at + writer->used, REQUEST_BYTES_MAX - writer->used, format, args);
    va_end(args);
    assert(n >= 0 && writer->used + (size_t)n < REQUEST_BYTES_MAX);
    writer->used += (size_t)n;
}

static void put_mac(struct writer *writer, const char *name, const uint8_t *mac)
{
    put(writer, "%s: %02X:%02X:%02X:%02X:%02X:%02X\r\n", name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* "GET /path HTTP/1.0", and Host with its port unless it is one of the two that need none. */
static void put_start(struct writer *writer, const struct url *url)
{
    put(writer, url->brackets ? "GET %s HTTP/1.0\r\nHost: [%s]" : "GET %s HTTP/1.0\r\nHost: %s", url->path, url->host);
    if (url->port != 80 && url->port != 443) {
        put(writer, ":%u", url->port);
    }
    put(writer, "\r\n");
}

static void put_authorization(struct writer *writer, const struct url *url)
{
    char base64[(sizeof url->user + 2) / 3 * 4 + 4];
    if (url->user[0] != '\0') {
        EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)url->user, (int)strlen(url->user));
        put(writer, "Authorization: Basic %s\r\n", base64);
    }
}

static void put_version(struct writer *writer, const char *name, const char *version)
{
    if (version[0] != '\0') {
        put(writer, "%s: %s\r\n", name, version);
    }
}

/* Where the file system begins, by flash size: the usual layouts of the ESP8266 core's tools/boards.txt.py (512K64,
 * 1M64, 2M1M, 4M2M). ESP32: the size of the second of two equal application partitions (default, 8 and 16 MB tables).
 */
static const struct {
    uint32_t flash_bytes, esp8266_fs_start, esp32_partition;
} layouts[] = {
    { 512u << 10, 0x6b000, 0x140000 }, { 1u << 20, 0xeb000, 0x140000 },  { 2u << 20, 0x100000, 0x140000 },
    { 4u << 20, 0x200000, 0x140000 },  { 8u << 20, 0x200000, 0x330000 }, { 16u << 20, 0x200000, 0x640000 },
};

uint32_t request_free_space(const struct request_facts *facts)
{
    size_t i = 0;
    while (i + 1 < sizeof layouts / sizeof layouts[0] && layouts[i + 1].flash_bytes <= facts->flash_bytes) {
        i++;
    }
    uint32_t sketch_bytes = (facts->sketch_bytes + 4095) & ~(uint32_t)4095;
    uint32_t fs_start = layouts[i].esp8266_fs_start;
    if (facts->esp32) {
        return layouts[i].esp32_partition;
    }
    return fs_start > sketch_bytes ? fs_start - sketch_bytes : 0;
}

static void put_esp8266(struct writer *writer, const struct request_facts *facts)
{
    const uint8_t *mac = facts->mac;
    uint8_t ap[6] = { mac[0] | 0x02, mac[1], mac[2], mac[3], mac[4], mac[5] };
    char md5[33];
    hex_encode(facts->md5, 16, md5);
    put(writer, "User-Agent: ESP8266-http-Update\r\n");
    put_authorization(writer, facts->url);
    put(writer, "Connection: close\r\n");
    put(writer, "x-ESP8266-Chip-ID: %u\r\n", (unsigned)mac[3] << 16 | (unsigned)mac[4] << 8 | mac[5]);
    put_mac(writer, "x-ESP8266-STA-MAC", mac);
    put_mac(writer, "x-ESP8266-AP-MAC", ap);
    put(writer, "x-ESP8266-free-space: %u\r\n", request_free_space(facts));
    put(writer, "x-ESP8266-sketch-size: %u\r\n", facts->sketch_bytes);
    put(writer, "x-ESP8266-sketch-md5: %s\r\n", md5);
    put(writer, "x-ESP8266-chip-size: %u\r\n", facts->flash_bytes);
    put(writer, "x-ESP8266-sdk-version: 2.2.2-dev(38a443e)\r\n");
    put(writer, "x-ESP8266-mode: %s\r\n", facts->fs ? "spiffs" : "sketch");
    put_version(writer, "x-ESP8266-version", facts->version);
    put(writer, "Content-Length: 0\r\n\r\n");
}

static void put_esp32(struct writer *writer, const struct request_facts *facts)
{
    const uint8_t *mac = facts->mac;
    uint8_t ap[6] = { mac[0], mac[1], mac[2], mac[3], mac[4], (uint8_t)(mac[5] + 1) };
    char md5[33], sha256[65];
    hex_encode(facts->md5, 16, md5);
    hex_encode(facts->sha256, 32, sha256);
    for (size_t i = 0; sha256[i] != '\0'; i++) {
        sha256[i] = (char)toupper((unsigned char)sha256[i]);
    }
    put(writer, "User-Agent: ESP32-http-Update\r\nConnection: close\r\n");
    put_authorization(writer, facts->url);
    put(writer, "Cache-Control: no-cache\r\n");
    put_mac(writer, "x-ESP32-STA-MAC", mac);
    put_mac(writer, "x-ESP32-AP-MAC", ap);
    put(writer, "x-ESP32-free-space: %u\r\n", request_free_space(facts));
    put(writer, "x-ESP32-sketch-size: %u\r\n", facts->sketch_bytes);
    put(writer, "x-ESP32-sketch-md5: %s\r\n", md5);
    put(writer, "x-ESP32-sketch-sha256: %s\r\n", sha256);
    put(writer, "x-ESP32-chip-size: %u\r\n", facts->flash_bytes);
    put(writer, "x-ESP32-sdk-version: v4.4.2\r\n");
    put(writer, "x-ESP32-mode: %s\r\n", facts->fs ? "spiffs" : "sketch");
    put_version(writer, "x-ESP32-version", facts->version);
    put(writer, "\r\n");
}

size_t request_write(const struct request_facts *facts, char to[REQUEST_BYTES_MAX])
{
    struct writer writer = { to, 0 };
    put_start(&writer, facts->url);
    if (facts->esp32) {
        put_esp32(&writer, facts);
    } else {
        put_esp8266(&writer, facts);
    }
    return writer.used;
}
