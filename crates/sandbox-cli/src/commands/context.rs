//! What every command needs.

use crate::cli::GlobalOptions;
use crate::output::{Printer, Report};
use crate::settings::{NetworkOverrides, Overrides, Settings, UserFile};
use sandbox_host::directories::Directories;
use sandbox_spec::TemplatePolicy;
use sandbox_store::image::ImageStore;
use sandbox_store::template::TemplateStore;

/// The state of one invocation.
pub(super) struct Context {
    pub(super) directories: Directories,
    pub(super) settings: Settings,
    pub(super) printer: Printer,
    /// What the user said on the command line or by the environment; a
    /// running sandbox that differs from it deserves a warning.
    pub(super) overrides: Overrides,
}

impl Context {
    pub(super) fn new(options: GlobalOptions, printer: Printer) -> Result<Self, Report> {
        let directories = Directories::from_environment()?;
        let file = UserFile::read(&directories.config_file())?;
        let overrides = Overrides {
            name: options.name,
            image: options.image,
            cpus: options.cpus,
            memory: options.memory,
            disk: options.disk,
            accelerator: options.accel,
            shares: options.share,
            share_mode: options.share_mode,
            cloud_init: options.cloud_init,
            ready_timeout: options.ready_timeout,
            templates: match options.cold {
                true => Some(TemplatePolicy::Off),
                false => options.templates,
            },
            network: NetworkOverrides {
                preset: options.network,
                rules: options.net_rule,
                proxy: options.proxy,
                published: options.publish,
                dns: options.dns,
                max_connections: options.max_connections,
                bandwidth: options.bandwidth,
                secrets: [options.secret, options.secret_file].concat(),
            },
        };
        Ok(Self {
            directories,
            settings: Settings::merge(overrides.clone(), file),
            printer,
            overrides,
        })
    }

    /// The template store.
    pub(super) fn templates(&self) -> TemplateStore {
        TemplateStore::new(&self.directories)
    }

    /// The image store.
    pub(super) fn images(&self) -> ImageStore {
        ImageStore::new(self.directories.images())
    }
}
