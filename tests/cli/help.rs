//! Help, version and completions.

use crate::support::TestEnvironment;

#[test]
fn version() {
    let environment = TestEnvironment::new();
    let output = environment.run(["--version"]).success();
    assert_eq!(
        output.stdout,
        format!("sandbox {}\n", env!("CARGO_PKG_VERSION"))
    );
}
