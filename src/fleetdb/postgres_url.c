/* SPDX-License-Identifier: Apache-2.0 */
/*
 * URLs of PostgreSQL, and what of them may be said.
 *
 * A URL may hold a password, and a password characters that mean something in a URL. libpq then takes a part of it for the host, the port or the
 * database's name: "//u:pa/ss@db/x" is port "pa" and database "ss@db/x". Those are named in each message, by us and by libpq; so a URL is refused
 * here whose parts look like that, before anything is said of it.
 */
#include "fleetdb/sql.h"

#include <libpq-fe.h>
#include <string.h>

static void
nc_conninfo_free(PQconninfoOption **options)
{
  PQconninfoFree(*options);
}

/* "5432", or one for each host: "5432,5433"; one may be left out. */
static bool
nc_is_port_list(const char *text)
{
  return strspn(text, "0123456789,") == strlen(text);
}

/* *ret_value: what ${option} says, if it is ${keyword} and says anything. */
static void
nc_take_option(const PQconninfoOption *option, const char *keyword, const char **ret_value)
{
  if (option->val && option->val[0] && g_str_equal(option->keyword, keyword))
    *ret_value = option->val;
}

char *
nc_sql_postgres_server(const char *url, GError **error)
{
  __attribute__((cleanup(nc_conninfo_free))) PQconninfoOption *options = PQconninfoParse(url, NULL);
  const char *host = "localhost", *port = "5432", *name = "";

  if (!options) {
    nc_fail(error, NC_ERROR_INVALID,
            "the URL of the fleet's database is not one of PostgreSQL: postgresql://USER@HOST:PORT/DATABASE?OPTION=VALUE");
    return NULL;
  }
  for (const PQconninfoOption *o = options; o->keyword; o++) {
    nc_take_option(o, "host", &host);
    nc_take_option(o, "port", &port);
    nc_take_option(o, "dbname", &name);
  }
  if (strchr(host, '@') || strchr(name, '@') || !nc_is_port_list(port)) {
    nc_fail(error, NC_ERROR_INVALID,
            "the URL of the fleet's database has a host or database with \"@\", or a port that is no number: in a password, write @ as %%40, / as %%2F, : as "
            "%%3A and ? as %%3F, or keep it in a passfile");
    return NULL;
  }
  return g_strdup_printf("%s:%s/%s", host, port, name);
}

bool
nc_sql_check_postgres_url(const char *url, GError **error)
{
  g_autofree char *server = nc_sql_postgres_server(url, error);
  return server != NULL;
}
