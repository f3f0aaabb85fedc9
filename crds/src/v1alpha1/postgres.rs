//! Triggers that call with the changes of a PostgreSQL database.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::source::{SecretKey, SourceTls};

/// Changes of tables by logical replication, in the order in which they were committed. The server
/// needs version 13 or newer and `wal_level = logical`, the role `REPLICATION`; a slot keeps the
/// server's log while the Function fails, so set `max_slot_wal_keep_size` there. Each row is at most
/// 64 MiB.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.plaintext || !has(self.tls)")
    .message("postgres.plaintext sends all as it is, so postgres.tls says nothing: set one of them"))]
pub struct PostgresTrigger {
    /// Name or address of the server, such as `db.shop.svc`, as its certificate names it.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$|^[0-9A-Fa-f:.]+$')")
        .message("postgres.host must be a name or an address, without scheme, port, user or path"))]
    pub host: String,
    /// Port of the server, from 1 to 65535. Default: 5432.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Name of the database.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub database: String,
    /// Name of the role.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub user: String,
    /// Password of the role. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
    /// Certificates. A connection is encrypted or not made, unless `plaintext` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SourceTls>,
    /// Sends the password's proof and all rows unencrypted: whoever is on the way can read and change
    /// them. For servers that have no certificate. Default: false.
    #[serde(default)]
    pub plaintext: bool,
    /// Replication slot, which keeps how far the Trigger is. It is made when the Trigger connects for
    /// the first time, and tells of what is committed from then on; one that is gone later is not made
    /// again (`PositionLost`). No two Triggers may use the same. It stays when the Trigger is deleted
    /// and keeps the server's log: drop it with `SELECT pg_drop_replication_slot('NAME')`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9_]+$')")
        .message("postgres.slot must have at most 63 lower-case letters, digits and '_'"))]
    pub slot: String,
    /// Publication that names the tables; made for `tables` and `operations` if it is not there, for
    /// which the role must own the tables and may `CREATE` in the database.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]*$')")
        .message("postgres.publication must have at most 63 lower-case letters, digits and '_', and not begin with a digit"))]
    pub publication: String,
    /// Tables whose changes are told of, at most 64. Default: all of the publication.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tables: Vec<PostgresTable>,
    /// Changes that are told of. Default: `[Insert, Update, Delete]`.
    #[serde(default = "default_operations")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Vec<PostgresOperation>,
}

const fn default_port() -> u16 {
    5432
}

fn default_operations() -> Vec<PostgresOperation> {
    vec![PostgresOperation::Insert, PostgresOperation::Update, PostgresOperation::Delete]
}

/// A table, and what of it is told.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PostgresTable {
    /// Schema and name, such as `public.orders`.
    #[schemars(length(min = 3, max = 127))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]{0,62}[.][a-z_][a-z0-9_]{0,62}$')")
        .message("a table must be SCHEMA.NAME in lower case, such as public.orders"))]
    pub name: String,
    /// Columns that events hold, at most 128. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub columns: Vec<String>,
}

/// A sort of change.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema,
)]
pub enum PostgresOperation {
    /// A row came.
    Insert,
    /// A row changed. What it was is told where the table's replica identity is `FULL`.
    Update,
    /// A row went.
    Delete,
    /// All rows of a table went.
    Truncate,
}
