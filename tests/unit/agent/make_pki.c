/* SPDX-License-Identifier: Apache-2.0 */
/* For integration tests of novacrond alone: `make-pki DATA_DIR CLUSTER NODE ADDRESS` makes a cluster of one node. */
#include "crypto/pki.h"

#include <stdio.h>

int
main(int argc, char **argv)
{
  g_autoptr(GError) error = NULL;
  if (argc != 5 || !nc_pki_init(argv[1], argv[2], argv[3], argv[4], 0, &error)) {
    fprintf(stderr, "%s\n", error ? error->message : "usage: make-pki DATA_DIR CLUSTER NODE ADDRESS");
    return 1;
  }
  return 0;
}
