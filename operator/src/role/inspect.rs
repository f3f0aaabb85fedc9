//! What a user asks of a Function: reads its object with the user's own rights, and nothing else.
//! Whoever may see a Function may ask.

pub mod args;
mod cold;
mod usage;
mod why;

use self::args::Question;
use crate::cluster::Cluster;
use crate::output;

/// Answers `question` on standard output.
pub async fn run(question: &Question) -> anyhow::Result<()> {
    let text = match question {
        Question::Why(args) => {
            let function = Cluster::of(&args.cluster).await?.function(&args.name).await?;
            why::explain(&function, args.output)?
        }
        Question::Cold(args) => {
            let function = Cluster::of(&args.cluster).await?.function(&args.name).await?;
            cold::explain(&function, args.output)?
        }
        Question::Usage(args) => {
            let cluster = Cluster::of(&args.cluster).await?;
            let functions = match &args.name {
                Some(name) => vec![cluster.function(name).await?],
                None => cluster.functions(args.all_namespaces, None).await?,
            };
            usage::sum_up(&functions, args)?
        }
    };
    output::print(&text)
}
