//! `sandbox port`: forwards host ports to a running sandbox.

use super::context::Context;
use super::{ExitStatus, Outcome, gateway};
use crate::cli::{PortArguments, PortCommand};
use crate::output::{Report, Table};
use sandbox::Found;
use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};
use sandbox_spec::SandboxName;
use sandbox_spec::publish::PublishedPort;

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: PortArguments,
) -> Outcome {
    let found = context.running(arguments.name.name.as_ref().or(name))?;
    match arguments.command {
        PortCommand::Add { ports } => {
            for port in ports {
                for open in ports_of(&found, GatewayCommand::PortAdd { port }).await? {
                    context.printer.data(open)?;
                }
            }
        }
        PortCommand::Rm { ports } => {
            for port in ports {
                gateway::ask(&found, GatewayCommand::PortRemove { port }).await?;
                context.printer.notice(format_args!("closed `{port}`"));
            }
        }
        PortCommand::Ls(arguments) => {
            let ports = ports_of(&found, GatewayCommand::PortList).await?;
            if arguments.json {
                context.printer.json(&ports)?;
            } else {
                context.printer.data(table(&ports))?;
            }
        }
    }
    Ok(ExitStatus::SUCCESS)
}

async fn ports_of(found: &Found, command: GatewayCommand) -> Result<Vec<PublishedPort>, Report> {
    Ok(match gateway::ask(found, command).await? {
        GatewayReply::Ports { ports } => ports,
        _ => Vec::new(),
    })
}

fn table(ports: &[PublishedPort]) -> Table {
    let mut table = Table::new(&["host", "guest", "transport"]);
    for port in ports {
        table.row([
            port.host.to_string(),
            port.guest.to_string(),
            port.transport.to_string(),
        ]);
    }
    table
}
