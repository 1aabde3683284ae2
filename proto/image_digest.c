/* The digests of an image. What makes it hard is the flash mode: an ESP8266 reports the MD5 of what lies in
 * its flash, where byte 2 is its own (cores/esp8266/Updater.cpp), so one image has four MD5s.
 *
 * MD5 is the clients' choice, not a protection. A library that can not compute it can not serve them at all,
 * which is an assertion and no verdict on the image.
 */
#include "proto/image_checks.h"

#include <openssl/evp.h>
#include <string.h>

#define MODE_AT 2

struct digester {
    EVP_MD *md;
    EVP_MD_CTX *context;
};

static void digester_init(struct digester *digester, const char *name)
{
    digester->md = EVP_MD_fetch(NULL, name, NULL);
    digester->context = EVP_MD_CTX_new();
    assert(digester->md != NULL && digester->context != NULL);
}

static void digester_close(struct digester *digester)
{
    EVP_MD_CTX_free(digester->context);
    EVP_MD_free(digester->md);
}

/* The digest of `view`, with byte MODE_AT replaced where `mode` is not NULL. */
static void digester_run(struct digester *digester, struct image_view view, const uint8_t *mode, uint8_t *digest)
{
    size_t rest = 0;
    bool ok = EVP_DigestInit_ex2(digester->context, digester->md, NULL) == 1;
    if (mode != NULL) {
        assert(view.len > MODE_AT);
        rest = MODE_AT + 1;
        ok = ok && EVP_DigestUpdate(digester->context, view.at, MODE_AT) == 1 &&
             EVP_DigestUpdate(digester->context, mode, 1) == 1;
    }
    ok = ok && EVP_DigestUpdate(digester->context, view.at + rest, view.len - rest) == 1 &&
         EVP_DigestFinal_ex(digester->context, digest, NULL) == 1;
    assert(ok);
}

static void run_md5s(struct digester *md5, struct image_view image, struct image_facts *facts)
{
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        if (facts->kind == IMAGE_ESP8266) {
            digester_run(md5, image, &mode, facts->run_md5[mode]);
        } else if (mode == 0) {
            digester_run(md5, image, NULL, facts->run_md5[0]);
        } else {
            memcpy(facts->run_md5[mode], facts->run_md5[0], sizeof facts->run_md5[0]);
        }
    }
}

void image_digest(struct image_view file, struct image_view image, struct image_facts *facts)
{
    assert(image.len == facts->image_bytes);
    struct digester md5;
    digester_init(&md5, "MD5");
    digester_run(&md5, file, NULL, facts->md5);
    run_md5s(&md5, image, facts);
    digester_close(&md5);

    image_sha256(file, facts->sha256);
    facts->file_bytes = file.len;
}

void image_sha256(struct image_view view, uint8_t digest[32])
{
    struct digester sha256;
    digester_init(&sha256, "SHA256");
    digester_run(&sha256, view, NULL, digest);
    digester_close(&sha256);
}
