//! Network ACLs and security groups, row by row of the VPC document (F1 to F11, A38 to A51), and whole accounts: what `ibmcloud is`
//! commands and the JSON of the API make of one table is compared rule by rule, and packets are judged at every edge of it.

#[path = "../gateway/mod.rs"]
mod gateway;

mod accounts;
mod acls;
mod groups;
mod layers;
mod membership;
mod oracle;
mod place;
