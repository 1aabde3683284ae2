#include "tests/support/certificate.h"

#include <openssl/pem.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "certificate: %s\n", what);
        abort();
    }
}

void certificate_init(struct certificate *certificate, const char *name)
{
    X509 *x509 = certificate->x509 = X509_new();
    certificate->key = EVP_EC_gen("P-256");
    must(x509 != NULL && certificate->key != NULL, "no memory");
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x509), 90L * 86400);
    X509_set_pubkey(x509, certificate->key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    must(X509_sign(x509, certificate->key, EVP_sha256()) > 0, "cannot be signed");
}

void certificate_close(struct certificate *certificate)
{
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->key);
}

void certificate_write(struct certificate *certificate)
{
    strcpy(certificate->folder, "/tmp/updraft-test-XXXXXX");
    must(mkdtemp(certificate->folder) != NULL, "no temporary folder");
    snprintf(certificate->cert_path, sizeof certificate->cert_path, "%s/cert", certificate->folder);
    snprintf(certificate->key_path, sizeof certificate->key_path, "%s/key", certificate->folder);
    FILE *file = fopen(certificate->cert_path, "we");
    must(file != NULL && PEM_write_X509(file, certificate->x509) == 1, "cannot be written");
    fclose(file);
    file = fopen(certificate->key_path, "we");
    must(file != NULL && PEM_write_PrivateKey(file, certificate->key, NULL, NULL, 0, NULL, NULL) == 1,
         "its key cannot be written");
    fclose(file);
}

void certificate_unlink(const struct certificate *certificate)
{
    unlink(certificate->cert_path);
    unlink(certificate->key_path);
    rmdir(certificate->folder);
}
